"""A page that shows what happened in a session. Needs the extra ``strands-dapr-session[inspector]``."""
