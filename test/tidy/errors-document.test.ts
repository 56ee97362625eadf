import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { errorsDocument } from '../../src/rpc/edge/errors-document.ts';

test('docs/errors.md explains each reason as the broker answers it (npm run generate writes its table)', () => {
  const written = readFileSync(new URL('../../docs/errors.md', import.meta.url), 'utf8');
  expect(written).toBe(errorsDocument(written));
});
