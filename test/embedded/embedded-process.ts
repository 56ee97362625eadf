/**
 * A broker as far as its database goes, for tests that kill it: starts PostgreSQL on the directory
 * named by its argument, prints one line of JSON, and stops at SIGTERM.
 */
import { startEmbeddedPostgres } from '../../src/embedded/embedded.ts';

const [dataDir = ''] = process.argv.slice(2);
const warnings: string[] = [];
try {
  const server = await startEmbeddedPostgres({
    dataDir,
    log: { info: () => undefined, warn: (message) => warnings.push(message) },
    settings: { shared_buffers: '16MB' },
    walBytes: 0,
  });
  process.once('SIGTERM', () => {
    void server.stop().then(() => process.exit(0));
  });
  // Held open by stdin, so that it ends with the test.
  process.stdin.resume().once('end', () => process.exit(0));
  console.log(JSON.stringify({ url: server.connectionString, pid: server.pid, warnings }));
} catch (cause) {
  console.log(JSON.stringify({ error: (cause as Error).message }));
  process.exitCode = 1;
}
