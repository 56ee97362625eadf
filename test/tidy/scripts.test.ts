import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';

const execute = promisify(execFile);
const root = new URL('../../', import.meta.url).pathname;
const manifest = JSON.parse(readFileSync(`${root}package.json`, 'utf8')) as { scripts: Record<string, string> };
/** What a machine has that was not prepared: its own Node, if any, and nothing of ours in front. */
const bareEnvironment = { PATH: '/usr/local/bin:/usr/bin:/bin' };

test.runIf(process.platform === 'linux')('the scripts run on Node 24 whatever Node the machine has', async () => {
  const { stdout } = await execute('./.ci/node24', ['node', '--version'], { cwd: root, env: bareEnvironment });
  expect(stdout).toMatch(/^v24\./);
});

test('a signal to npm start reaches the broker, and no shell in between keeps it', async () => {
  const { start = '' } = manifest.scripts;
  expect(start).toMatch(/^NODE_COMPILE_CACHE=\S+ exec \.\/\.ci\/node24 node .* src\/main\.ts$/);
  const waiting = "process.once('SIGTERM', () => process.exit(7)); setInterval(() => {}, 1000); console.log('ready')";
  const script = `${start.replace(/ src\/main\.ts$/, '')} -e "$PROGRAM"`;
  const child = spawn('sh', ['-c', script], { cwd: root, env: { ...bareEnvironment, PROGRAM: waiting } });
  await once(createInterface({ input: child.stdout }), 'line');
  child.kill('SIGTERM');
  expect(await once(child, 'exit')).toEqual([7, null]);
});

test('every script that runs a tool of node_modules runs it on Node 24', () => {
  const bare = Object.entries(manifest.scripts).filter(([, script]) =>
    script.split(' && ').some((part) => !/^(NODE_COMPILE_CACHE=\S+ )?(exec )?\.\/\.ci\/node24 |^npm /.test(part)),
  );
  expect(bare).toEqual([]);
});
