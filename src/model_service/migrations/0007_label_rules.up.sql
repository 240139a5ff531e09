-- What a label was made by: horizon, barriers, fee rate and minimum, as one number. A run reads the rows of its strategy's
-- present rule; null where a row is older than this column.
ALTER TABLE model_service.samples ADD COLUMN label_rule bigint;
