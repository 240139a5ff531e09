DROP TABLE model_service.feature_sets;
ALTER TABLE model_service.samples DROP COLUMN opposite_net_return;
ALTER TABLE model_service.outcomes DROP COLUMN opposite_net_return;
