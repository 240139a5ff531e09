-- An order has two identifiers, the exchange's and order-manager's own; a report may carry either.
ALTER TABLE model_service.order_progress ADD COLUMN other_order_id text;
CREATE INDEX order_progress_by_other_id ON model_service.order_progress (other_order_id) WHERE other_order_id IS NOT NULL;
