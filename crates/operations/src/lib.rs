//! Every administrative action once; the command line, pages and APIs are faces of it.
