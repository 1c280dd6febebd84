'use strict';
// Encrypts a private key with a passphrase, as a user of Node would: node encrypt.js KEY ENCRYPTED PASSPHRASE

const crypto = require('crypto');
const fs = require('fs');

const [key, encrypted, passphrase] = process.argv.slice(2);
const options = { type: 'pkcs8', format: 'pem', cipher: 'aes-256-cbc', passphrase };
fs.writeFileSync(encrypted, crypto.createPrivateKey(fs.readFileSync(key)).export(options));
