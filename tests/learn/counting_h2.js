// As counting.js, with HTTP/2 (prior knowledge).  A session that is idle for IDLE ms gets a GOAWAY.
const fs = require("fs");
const http2 = require("http2");
const server = http2.createServer();
server.on("session", (session) => session.setTimeout(Number(process.argv[3]), () => session.close()));
server.on("request", (request, response) => {
  if (request.method === "POST") fs.appendFileSync(process.env.POSTS, "POST " + request.url.split("?")[1] + "\n");
  request.resume();
  response.setHeader("Content-Length", "2");
  response.end("ok");
});
server.listen(Number(process.argv[2]), "127.0.0.1");
