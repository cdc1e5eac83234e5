"""The log service: devices stream lines to it over HTTPS, JetStream keeps them, people follow."""
