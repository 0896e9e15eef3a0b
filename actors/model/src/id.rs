//! The ids of services, tasks and what services refer to; those of nodes and clusters are `wire`'s, because transport knows them too.

essaim_wire::id! {
    /// A service, from its creation until it is removed.
    ServiceId
}

essaim_wire::id! {
    /// One attempt to fill a slot of a service.
    TaskId
}

essaim_wire::id! {
    /// A secret, from its creation until it is removed.
    SecretId
}

#[cfg(test)]
essaim_wire::golden_bytes!("id": ServiceId, TaskId);
