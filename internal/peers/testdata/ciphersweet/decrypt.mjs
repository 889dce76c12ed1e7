// Encrypts 32 bytes as a field once; then, for each number on a line of the
// standard input, decrypts it as often and answers with the nanoseconds taken.
import crypto from 'node:crypto';
import readline from 'node:readline';
import ciphersweet from 'ciphersweet-js';

const { CipherSweet, EncryptedField, FIPSCrypto, StringProvider } = ciphersweet;
const engine = new CipherSweet(new StringProvider(crypto.randomBytes(32).toString('hex')), new FIPSCrypto());
const field = new EncryptedField(engine, 'patients', 'name');
const record = '01998ab1-5a4e-7d3c-9f10-8f6f1c3a2b10';
const plain = 'x'.repeat(32);
const cell = await field.encryptValue(plain, record);

for await (const line of readline.createInterface({ input: process.stdin })) {
  const n = Number(line);
  const begin = process.hrtime.bigint();
  for (let i = 0; i < n; i++) {
    if (String(await field.decryptValue(cell, record)) !== plain) {
      throw new Error('decrypted to something else');
    }
  }
  process.stdout.write(`${process.hrtime.bigint() - begin}\n`);
}
