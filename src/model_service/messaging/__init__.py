"""The transport port and its two adapters: RabbitMQ and PostgreSQL."""
