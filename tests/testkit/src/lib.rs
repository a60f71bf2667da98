//! Servers, clusters and storages for the tests.
