// Node's cluster: WORKERS "round robin"|"shared" [FILE]. Prints the port, or writes it to the file, when all workers
// listen.
import cluster from "node:cluster";
import fs from "node:fs";
import http from "node:http";

const [workers, policy, file] = process.argv.slice(2);
if (cluster.isPrimary) {
  cluster.schedulingPolicy = policy === "shared" ? cluster.SCHED_NONE : cluster.SCHED_RR;
  let listening = 0;
  cluster.on("listening", (_worker, { port }) => {
    listening++;
    if (listening < Number(workers)) return;
    if (file === undefined) console.log(port);
    else fs.writeFileSync(file, `${port}`);
  });
  for (let index = 0; index < Number(workers); index++) cluster.fork();
} else {
  const server = http.createServer((_request, response) => {
    response.setHeader("content-type", "text/plain;charset=UTF-8");
    response.end("hello world");
  });
  // The workers of a cluster get the same port for 0.
  server.listen(0, "127.0.0.1");
}
