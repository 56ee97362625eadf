/** Writes the table of docs/errors.md. `npm run generate` calls it, and a test fails without it. */
import { readFileSync, writeFileSync } from 'node:fs';
import { errorsDocument } from './edge/errors-document.ts';

const path = new URL('../../docs/errors.md', import.meta.url);
writeFileSync(path, errorsDocument(readFileSync(path, 'utf8')));
