//! Users, tokens and authorization for NSP daemons.
