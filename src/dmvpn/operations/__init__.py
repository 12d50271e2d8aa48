"""One typed function for each verb. The command line and the web are faces of these: nothing here prints."""
