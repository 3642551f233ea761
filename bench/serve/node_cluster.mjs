// Node's cluster: WORKERS "round robin"|"shared". Prints the port when all workers listen.
import cluster from "node:cluster";
import http from "node:http";

const [workers, policy] = process.argv.slice(2);
if (cluster.isPrimary) {
  cluster.schedulingPolicy = policy === "shared" ? cluster.SCHED_NONE : cluster.SCHED_RR;
  let listening = 0;
  cluster.on("listening", (_worker, { port }) => {
    listening++;
    if (listening === Number(workers)) console.log(port);
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
