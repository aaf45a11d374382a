def diagnose(subject, sampler, evidence, seed):
    return ()
