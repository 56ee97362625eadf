/** Writes docs/configuration.md for `npm run generate`. A test fails when the file is stale. */
import { writeFileSync } from 'node:fs';
import { configurationDocument } from './help.ts';

writeFileSync(new URL('../../docs/configuration.md', import.meta.url), configurationDocument());
