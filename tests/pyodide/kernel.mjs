// Runs cells by JupyterLite's kernel, one a line of stdin: JSON in, JSON out. Pyodide's own messages go to stderr.
// Its argument is JSON: `site`, the folder of the packages; `cache`, that of their bytecode; `mounts`, folders that keep
// their paths; `packages`, those of a lock file; `server`, where they are; `downloads`, the folder where they are kept.
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";

const require = createRequire(import.meta.url);
const { loadPyodide } = require("pyodide");
const options = JSON.parse(process.argv[2]);

// Node has none. Of a page's, this is what a synchronous request for text needs; another process waits for the answer.
const FETCH = `
  const [method, url, body] = process.argv.slice(1);
  fetch(url, { method, body: body || undefined }).then(async (answer) => {
    const bytes = Buffer.from(await answer.arrayBuffer()).toString("base64");
    console.log(JSON.stringify([answer.status, answer.statusText, answer.url, bytes]));
  });`;
globalThis.XMLHttpRequest = class XMLHttpRequest {
  open(method, url, isAsync) {
    if (isAsync !== false) throw new Error("only synchronous requests are known here");
    Object.assign(this, { method, url });
  }
  overrideMimeType(type) { this.encoding = type.endsWith("charset=x-user-defined") ? "latin1" : "utf8"; }
  setRequestHeader() {}
  send(body = "") {
    let answer;
    try {
      answer = JSON.parse(execFileSync(process.execPath, ["-e", FETCH, this.method, this.url, body], { stdio: "pipe" }));
    } catch { throw new DOMException("Failed to execute 'send'", "NetworkError"); }
    const [status, statusText, responseURL, bytes] = answer;
    this.responseText = this.response = Buffer.from(bytes, "base64").toString(this.encoding ?? "utf8");
    Object.assign(this, { status, statusText, responseURL });
  }
};

const lock = JSON.parse(readFileSync(require.resolve("pyodide/pyodide-lock.json"), "utf8"));
const py = await loadPyodide({
  lockFileContents: JSON.stringify({ ...lock, packages: options.packages }),
  packageBaseUrl: options.server,
  packageCacheDir: options.downloads,
  env: { HOME: "/home/pyodide", ...options.env },
  stdout: console.error,
  stderr: console.error,
});
for (const folder of [options.site, options.cache, ...options.mounts]) {
  py.FS.mkdirTree(folder);
  py.FS.mount(py.FS.filesystems.NODEFS, { root: folder }, folder);
}
await py.runPythonAsync(readFileSync(new URL("inside.py", import.meta.url), "utf8"), {
  globals: py.toPy({ folders: [options.site, options.root], cache: options.cache }),
});
const run = py.pyimport("__main__").run_cell;
console.log(JSON.stringify({}));
for await (const line of createInterface({ input: process.stdin })) {
  console.log(await run(line));
}
process.exit(0);
