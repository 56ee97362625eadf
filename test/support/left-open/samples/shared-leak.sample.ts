import { createServer } from 'node:net';
import { afterAll, beforeAll, test } from 'vitest';

const server = createServer();

beforeAll(async () => {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
});

afterAll(() => {
  server.close();
});

test('leaves a timer beside the fixture', () => {
  setTimeout(() => undefined, 60_000);
});
