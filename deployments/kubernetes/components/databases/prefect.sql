-- Beside the store's own database, which POSTGRES_DB makes.
CREATE DATABASE prefect;
