-- A copy of each dead letter goes to our own queue; people requeue and drop.
ALTER TABLE model_service.dead_letters
    ADD COLUMN copied_at          timestamptz,
    ADD COLUMN copy_claimed_until timestamptz,
    ADD COLUMN requeue_attempts   integer NOT NULL DEFAULT 0,
    ADD COLUMN dropped_at         timestamptz;
CREATE INDEX dead_letters_to_copy ON model_service.dead_letters (copy_claimed_until NULLS FIRST, dead_letter_id)
    WHERE copied_at IS NULL;
CREATE INDEX dead_letters_open ON model_service.dead_letters (last_seen_at DESC, dead_letter_id)
    WHERE requeued_at IS NULL AND dropped_at IS NULL;
