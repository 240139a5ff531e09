ALTER TABLE model_service.training_runs DROP CONSTRAINT training_runs_trigger_check;
-- A drift is a fall of quality to a program that does not know of drift; no run is lost for it.
UPDATE model_service.training_runs SET trigger = 'quality' WHERE trigger = 'drift';
ALTER TABLE model_service.training_runs ADD CONSTRAINT training_runs_trigger_check
    CHECK (trigger IN ('outcomes', 'schedule', 'quality', 'manual'));
ALTER TABLE model_service.activations DROP COLUMN evidence;
