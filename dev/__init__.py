"""What the project needs to be developed: the programs of its servers and the servers themselves. Not shipped."""
