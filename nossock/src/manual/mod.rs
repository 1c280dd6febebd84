//! Pages about the whole: not needed to use the crate, and good to know when something surprises.

pub mod compatibility {
    #![doc = include_str!("compatibility.md")]
}

pub mod lifecycle {
    #![doc = include_str!("lifecycle.md")]
}

pub mod moving_from_npm {
    #![doc = include_str!("moving_from_npm.md")]
}

pub mod wire {
    #![doc = include_str!("wire.md")]
}
