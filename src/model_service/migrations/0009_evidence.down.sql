ALTER TABLE model_service.trading_signals DROP COLUMN evidence;
