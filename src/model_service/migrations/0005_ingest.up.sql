-- Execution events are stored, committed and acknowledged first, and turned into fills right after, from these rows alone.
ALTER TABLE model_service.execution_events ADD COLUMN other_order_id text;
CREATE INDEX execution_events_orphans ON model_service.execution_events (received_at) WHERE is_orphan;
-- Nothing looks an event up by its order, and each random text in an index costs as much as the row.
DROP INDEX model_service.execution_events_by_order;

-- The queue between the two: what has been stored and is not yet in the position book, in the order of arrival.
CREATE TABLE model_service.underived_executions (
    position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    event_id text NOT NULL,
    refusal  text
);
COMMENT ON COLUMN model_service.underived_executions.refusal IS 'why no fill can be made of it; tried again at the next start';
