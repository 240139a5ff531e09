DROP INDEX model_service.activations_by_version;
DROP INDEX model_service.activations_by_strategy;
DROP INDEX model_service.model_versions_with_files;
DROP INDEX model_service.model_versions_by_time;
DROP TABLE model_service.model_version_increments;
ALTER TABLE model_service.model_versions DROP CONSTRAINT model_versions_active_has_files;
ALTER TABLE model_service.model_versions DROP COLUMN files_removed_at;
ALTER TABLE model_service.model_versions DROP COLUMN file_sizes;
