"""The serving host: keeps the model servers of this machine running as the store's rows say."""
