"""Runs in Pyodide: gives cells to JupyterLite's kernel, as its worker does, and collects what it sends."""

import json
import sys
import uuid

sys.path[:0] = globals()["folders"]
sys.dont_write_bytecode, sys.pycache_prefix = False, globals()["cache"]

import pyodide_kernel  # noqa: E402

kernel = pyodide_kernel.kernel_instance
shell = kernel.interpreter


async def run_cell(line: str) -> str:
    cell = json.loads(line)
    header = {"msg_id": str(uuid.uuid4()), "msg_type": "execute_request"}
    kernel._parent_header = {"header": header, "metadata": {"cellId": cell["id"]}, "content": {"code": cell["code"]}}
    ran = {"stdout": "", "stderr": "", "displays": [], "result": None, "comms": []}

    def write(name: str, text: str) -> None:
        ran[name] += text

    def display(data: dict, metadata: dict, transient: object) -> None:
        ran["displays"].append([data, metadata or {}])

    def show_result(count: int, data: dict, metadata: dict) -> None:
        ran["result"] = data.get("text/plain")

    def send_comm(kind: str, content: object, *rest: object) -> None:
        ran["comms"].append([kind, content])

    pyodide_kernel.stdout_stream.publish_stream_callback = write
    pyodide_kernel.stderr_stream.publish_stream_callback = write
    shell.display_pub.display_data_callback = shell.display_pub.update_display_data_callback = display
    shell.displayhook.publish_execution_result = show_result
    shell.send_comm = send_comm
    reply = await kernel.run(cell["code"])
    if reply["status"] == "error":
        ran |= {name: reply[name] for name in ("ename", "evalue")} | {"traceback": "\n".join(reply["traceback"])}
    return json.dumps(ran, default=str)


sys.modules["__main__"].run_cell = run_cell
