//! Tests of the roles around a model of a broker.

mod simulation;
