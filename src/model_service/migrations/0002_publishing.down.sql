DROP TABLE model_service.accepted_messages;
DROP TABLE model_service.leases;
