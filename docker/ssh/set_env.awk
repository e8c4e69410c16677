# Prints what sshd's SetEnv takes, from the environment of this process: what those who log in have of it.
#
# mpirun starts ranks in other containers over ssh, which passes no environment on; what was given to those containers
# (docker run -e) has to reach their ranks: whatever changes how TensorFlow, Horovod and OpenMPI work, and of which image
# they are. The prefixes up to XLA_ are those of bench/machine/environment.py. sshd takes the first SetEnv alone, so all
# is one line of quoted words, in which quotes and backslashes need a backslash (sshd_config(5); argv_split in misc.c).
BEGIN {
    names = "^(PATH|HOME|TMPDIR|PYTHONUNBUFFERED)$"
    prefixes = "^(DNNL_|GLIBC_TUNABLES|GOMP_|KMP_|LD_PRELOAD|MALLOC_|MKL_|OMP_|ONEDNN_|TF_AUTO_|TF_DISABLE_|TF_ENABLE_" \
        "|TF_MKL_|TF_NUM_|TF_XLA_|XLA_|HOROVOD_|OMPI_MCA_|TF_BENCH_IMAGE|TF_CPP_)[A-Za-z0-9_]*$"
    for (name in ENVIRON)
        if (name ~ names || name ~ prefixes) {
            value = ENVIRON[name] ""
            gsub(/[\\"]/, "\\\\&", value)
            printf "%s\"%s=%s\"", separator, name, value
            separator = " "
        }
}
