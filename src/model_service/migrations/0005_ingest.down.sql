-- The version before this one derives fills only while it stores an event: what still waits would never become one.
DO $$
BEGIN
    IF EXISTS (SELECT FROM model_service.underived_executions) THEN
        RAISE EXCEPTION 'Execution events wait in underived_executions; run the service until it is empty.';
    END IF;
END $$;
DROP TABLE model_service.underived_executions;
DROP INDEX model_service.execution_events_orphans;
CREATE INDEX execution_events_by_order ON model_service.execution_events (order_id);
ALTER TABLE model_service.execution_events DROP COLUMN other_order_id;
