DROP INDEX model_service.order_progress_by_other_id;
ALTER TABLE model_service.order_progress DROP COLUMN other_order_id;
