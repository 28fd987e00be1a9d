// Package config is what the binary can be told: in one YAML file, in environment variables, and by flags, of which the later
// ones win.
//
// [Config] is the whole of it. A field's tags say its key, what it means, and whether it takes effect on a reload; from them
// come the reference page, the file with all defaults, the names of the variables, and what is told of an unknown key. The
// variable of a key is HOLDPOST_ and the key in capitals, with an underscore for each dot; the flag has a dash for both. Lists
// of objects stand in the file alone.
//
// A secret is never a value of its own: the configuration says in which file or variable it is, and it is read by [Secret.Read].
package config
