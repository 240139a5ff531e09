DROP TABLE model_service.exit_states;
ALTER TABLE model_service.lots DROP COLUMN position_id;
