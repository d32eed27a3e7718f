// Preloaded into node programs, by NODE_OPTIONS: `fetch`, WebSockets, `http` and `https` ask nbreplay's server, whatever
// address they are given. Any other connection is announced to the server, which refuses it under replay.
"use strict";

const setting = process.env.NBREPLAY_NODE && JSON.parse(process.env.NBREPLAY_NODE);
// What installs packages is not recorded. Under replay it makes do with its cache.
const installs = /[\\/](npm|npx|pnpm|yarn|corepack)(-cli)?(\.c?js)?$/.test(process.argv[1] || "");

if (setting) {
  const http = require("node:http");
  const https = require("node:https");
  const { syncBuiltinESMExports } = require("node:module");
  const net = require("node:net");
  const { urlToHttpOptions } = require("node:url");

  const server = new URL(setting.address);
  const proxy = new URL(setting.proxy);
  const authorization = `Basic ${Buffer.from(`${proxy.username}:${proxy.password}`).toString("base64")}`;

  const isLoopback = (host) => /^(localhost|127(\.\d+){3}|\[?::1\]?)$/.test(host);
  const isServer = (host, port) => isLoopback(host) && Number(port) === Number(server.port);
  // Servers of this process.
  const isOwn = (host, port) =>
    isLoopback(host) &&
    process._getActiveHandles().some((each) => each instanceof net.Server && each.address()?.port === Number(port));

  // How the server is asked for a URL: the path, and headers to add; null if it is not asked.
  function question(url) {
    const port = url.port || (url.protocol === "https:" ? 443 : 80);
    if (installs || !/^https?:$/.test(url.protocol) || isServer(url.hostname, port) || isOwn(url.hostname, port)) return null;
    const path = url.pathname + url.search;
    if (isLoopback(url.hostname) === (url.protocol === "http:")) {
      return { path: `${server.pathname}/${url.host}${path}`, headers: {} };
    }
    return url.protocol === "http:" ? { path: url.href, headers: { "proxy-authorization": authorization } } : null;
  }

  // Of `fetch` and WebSocket: what sends their requests is there after the first call.
  const dispatcher = Symbol.for("undici.globalDispatcher.1");
  const patched = new WeakSet();
  const fetch = globalThis.fetch;

  function withHeaders(headers, more) {
    if (!Object.keys(more).length) return headers;
    if (Array.isArray(headers)) return [...headers, ...Object.entries(more).flat()];
    return { ...(headers?.[Symbol.iterator] ? Object.fromEntries(headers) : headers), ...more };
  }

  function patchDispatcher() {
    if (!globalThis[dispatcher]) fetch("data:,").catch(() => {});
    const agent = globalThis[dispatcher];
    if (!agent || patched.has(agent)) return;
    patched.add(agent);
    const dispatch = agent.dispatch;
    agent.dispatch = function (options, handler) {
      const asked = options.origin ? question(new URL(options.path, options.origin)) : null;
      if (asked === null) return dispatch.call(this, options, handler);
      const headers = withHeaders(options.headers, asked.headers);
      return dispatch.call(this, { ...options, origin: server.origin, path: asked.path, headers }, handler);
    };
  }

  for (const [name, trap] of [["fetch", "apply"], ["WebSocket", "construct"]]) {
    if (!globalThis[name]) continue;
    const call = (...args) => (patchDispatcher(), Reflect[trap](...args));
    globalThis[name] = new Proxy(globalThis[name], { [trap]: call });
  }

  const plain = http.request;
  for (const [module, protocol] of [[http, "http:"], [https, "https:"]]) {
    const before = module.request;
    module.request = function request(...args) {
      const callback = typeof args.at(-1) === "function" ? args.pop() : undefined;
      const given = typeof args[0] === "string" ? new URL(args[0]) : args[0];
      const options = { ...(given instanceof URL ? urlToHttpOptions(given) : given), ...args[1] };
      const name = options.hostname || options.host || "localhost";
      const port = options.port || options.defaultPort;
      const host = (net.isIPv6(name) ? `[${name}]` : name) + (port ? `:${port}` : "");
      const scheme = options.protocol || options.agent?.protocol || protocol;
      const asked = options.socketPath ? null : question(new URL(`${scheme}//${host}${options.path || "/"}`));
      if (asked === null) return before(options, callback);
      const to = { protocol: "http:", hostname: server.hostname, host: server.hostname, port: server.port, path: asked.path };
      const none = { agent: undefined, createConnection: undefined, defaultPort: undefined };
      return plain({ ...options, ...none, ...to, headers: withHeaders(options.headers, asked.headers) }, callback);
    };
    module.get = function get(...args) {
      const request = module.request(...args);
      request.end();
      return request;
    };
  }
  syncBuiltinESMExports();

  const connect = net.Socket.prototype.connect;
  net.Socket.prototype.connect = function (...args) {
    const [options] = Array.isArray(args[0]) ? args[0] : net._normalizeArgs(args);
    const host = options.host || "localhost";
    if (options.path || isServer(host, options.port) || isOwn(host, options.port)) return connect.apply(this, args);
    this.connecting = true;
    announce(`${net.isIPv6(host) ? `[${host}]` : host}:${options.port}`, (refusal) => {
      if (this.destroyed) return;
      if (refusal) this.destroy(Object.assign(new Error(refusal), { code: "ECONNREFUSED" }));
      else connect.apply(this, args);
    });
    return this;
  };

  // Ask the server whether a connection may be opened: it logs that, or that it is refused.
  function announce(where, done) {
    const socket = new net.Socket();
    let answer = "";
    const decide = () => {
      const refused = answer ? !/^HTTP\/1\.\d 200/.test(answer) : setting.replaying;
      const text = /"message": ?("(?:[^"\\]|\\.)*")/.exec(answer);
      socket.removeAllListeners().on("error", () => {}).destroy();
      done(refused && (text ? JSON.parse(text[1]) : `nbreplay blocked a connection to ${where} during replay`));
    };
    socket.on("data", (data) => {
      answer += data;
      if (/^HTTP\/1\.\d 200/.test(answer)) decide();
    });
    socket.once("close", decide).on("error", () => {});
    connect.call(socket, { host: server.hostname, port: Number(server.port) });
    socket.write(`CONNECT ${where} HTTP/1.1\r\nHost: ${where}\r\nProxy-Authorization: ${authorization}\r\n\r\n`);
  }
}
