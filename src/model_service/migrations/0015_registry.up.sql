-- How long each file was when it was judged, by name; null for versions from before this was kept.
ALTER TABLE model_service.model_versions ADD COLUMN file_sizes jsonb;
-- When retention removed the files; the row, its metrics and its history stay.
ALTER TABLE model_service.model_versions ADD COLUMN files_removed_at timestamptz;
ALTER TABLE model_service.model_versions
    ADD CONSTRAINT model_versions_active_has_files CHECK (NOT is_active OR files_removed_at IS NULL);

-- The last increment that was given out of each full version, so that none is given twice, also by two at once.
CREATE TABLE model_service.model_version_increments (
    base text PRIMARY KEY,
    last integer NOT NULL CHECK (last > 0)
);
INSERT INTO model_service.model_version_increments (base, last)
SELECT split_part(version, '.', 1), max(split_part(version, '.', 2)::integer)
FROM model_service.model_versions WHERE version LIKE '%.%' GROUP BY 1;

CREATE INDEX model_versions_by_time ON model_service.model_versions (trained_at DESC, id);
CREATE INDEX model_versions_with_files ON model_service.model_versions (coalesce(strategy_id, ''), trained_at DESC)
    WHERE files_removed_at IS NULL;
CREATE INDEX activations_by_strategy ON model_service.activations (coalesce(strategy_id, ''), activation_id DESC);
CREATE INDEX activations_by_version ON model_service.activations (version, activation_id DESC);
