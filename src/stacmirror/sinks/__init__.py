"""Where bytes go: `directory` keeps them, unseen until they are whole; `durable` makes them survive a power cut."""
