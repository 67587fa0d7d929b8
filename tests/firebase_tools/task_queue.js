// The task queue emulator of firebase-tools by itself. Its arguments: a port, the path of a queue, and the address that
// the queue's tasks go to. It says "ready" when the queue is there.
const {TasksEmulator} = require("firebase-tools/lib/emulator/tasksEmulator");

const [port, queue, defaultUri] = process.argv.slice(2);

(async () => {
  const emulator = new TasksEmulator({projectId: "demo-tasks", host: "127.0.0.1", port: Number(port)});
  await emulator.start();
  const answer = await fetch(`http://127.0.0.1:${port}/${queue}`, {
    method: "POST",
    headers: {"Content-Type": "application/json"},
    body: JSON.stringify({defaultUri, retryConfig: {minBackoffSeconds: 0.1}}),
  });
  process.stdout.write(answer.ok ? "ready\n" : `${await answer.text()}\n`);
})();
