"""A small websocket server that answers a text with its words, one message each, for 06_any_process.ipynb."""

import json

from websockets.sync.server import ServerConnection, serve


def answer(connection: ServerConnection) -> None:
    """Send the words of each text that comes."""
    for message in connection:
        words = json.loads(message)["text"].split()
        for word in words:
            connection.send(json.dumps({"type": "word", "word": word}))
        connection.send(json.dumps({"type": "done", "words": len(words)}))


if __name__ == "__main__":
    with serve(answer, "127.0.0.1", 8765) as server:
        server.serve_forever()
