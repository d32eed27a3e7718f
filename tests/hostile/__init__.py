"""Files, requests and programs that want harm, and the promises that hold all the same."""
