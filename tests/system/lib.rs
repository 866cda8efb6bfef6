//! Tests of the real binaries (`it`) and of booted VMs (`vm`); there is no library.
