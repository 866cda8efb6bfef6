//! Tests of the real binaries (`it`) of booted VMs (`vm`) and of `monitoring/`; there is no library.
