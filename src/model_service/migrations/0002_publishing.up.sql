-- Roles that one process holds at a time. A write of a role names its epoch, so that a former holder writes nothing.
CREATE TABLE model_service.leases (
    role        text PRIMARY KEY,
    epoch       bigint NOT NULL,
    acquired_at timestamptz NOT NULL
);

-- The newest message_ids that the embedded transport has accepted under a lease: each is accepted once.
CREATE TABLE model_service.accepted_messages (
    accepted_seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    exchange     text NOT NULL,
    message_id   text NOT NULL,
    UNIQUE (exchange, message_id)
);
