-- What a change of the version that speaks rests on: detectors with value and threshold, the window.
ALTER TABLE model_service.activations ADD COLUMN evidence jsonb;
-- A run that the drift of features has asked for.
ALTER TABLE model_service.training_runs DROP CONSTRAINT training_runs_trigger_check;
ALTER TABLE model_service.training_runs ADD CONSTRAINT training_runs_trigger_check
    CHECK (trigger IN ('outcomes', 'schedule', 'quality', 'drift', 'manual'));
