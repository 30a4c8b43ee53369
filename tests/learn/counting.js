// Writes down each POST by its id, into the file POSTS names.
const fs = require("fs");
const http = require("http");
http
  .createServer((request, response) => {
    if (request.method === "POST") fs.appendFileSync(process.env.POSTS, "POST " + request.url.split("?")[1] + "\n");
    request.resume();
    response.setHeader("Content-Length", "2");
    response.end("ok");
  })
  .listen(Number(process.argv[2]), "127.0.0.1");
