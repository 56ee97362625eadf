import { createServer } from 'node:net';
import { afterAll, beforeAll, test } from 'vitest';

const server = createServer();
let lazy: NodeJS.Timeout | undefined;

beforeAll(async () => {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
});

afterAll(() => {
  clearTimeout(lazy);
  server.close();
});

test('has the fixture open more', () => {
  lazy = setTimeout(() => undefined, 60_000);
});
