DROP TABLE model_service.strategy_definitions;
