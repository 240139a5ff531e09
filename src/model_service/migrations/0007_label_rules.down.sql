ALTER TABLE model_service.samples DROP COLUMN label_rule;
