//! The simulated hostile disk.
