DROP INDEX model_service.dead_letters_open;
DROP INDEX model_service.dead_letters_to_copy;
ALTER TABLE model_service.dead_letters
    DROP COLUMN dropped_at,
    DROP COLUMN requeue_attempts,
    DROP COLUMN copy_claimed_until,
    DROP COLUMN copied_at;
