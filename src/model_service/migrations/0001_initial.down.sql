DROP SCHEMA model_service CASCADE;
